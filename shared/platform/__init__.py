"""How the platform is: health, and figures of what it holds."""
