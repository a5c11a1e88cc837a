"""One command a file: options in, exit code out."""
