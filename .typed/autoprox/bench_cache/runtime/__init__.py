"""Runtime: files, locks, journals and pools of workers, for long work of any kind."""
