"""The seed's specification: its examples, run as they stand there but for the import line, and the documents on it."""
