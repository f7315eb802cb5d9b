"""What the binaries share: setting up a process, text in and out, and actions that need both."""
