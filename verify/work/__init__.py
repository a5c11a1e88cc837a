"""How work behaves while it runs: time, memory, interruption, progress, a second thread."""
