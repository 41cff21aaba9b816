"""What changes something: each command beside the function that carries it out."""
