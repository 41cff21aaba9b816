"""The capacity harness: what a core carries, beside the tools that one would use instead."""
