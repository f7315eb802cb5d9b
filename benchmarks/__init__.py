"""Every number that the documentation quotes, each with the command that measures it."""
