"""What long work on disk and in processes needs, whatever it computes: files, locks, journals, pools of workers."""
