"""What a program does on chips that are not here: compiled for them, read, and reported."""
