"""What is predicted from what: a preprocessor (named, not imported) and a loss."""
