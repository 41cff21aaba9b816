"""Commands and events: one door for each."""
