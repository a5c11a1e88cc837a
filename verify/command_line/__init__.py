"""What `certify` takes on its command line: a file for each kind of command. What they do is in `verify.commands`."""
