"""What a new bounded context begins with: templates, and the generator that wires them in."""
