"""A manifest of thousands of edits on many servers: a picture and a line each, gone on with where it ended."""
