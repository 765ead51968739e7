"""What a user runs from a shell."""
