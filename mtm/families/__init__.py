"""Published model families: each module is a builder that says what makes the family itself."""
