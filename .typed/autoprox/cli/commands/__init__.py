"""The commands of `autoprox`: each file holds one, as `command`; its first line is the command's line in `--help`."""
