"""Other projects' label models, each in an environment of its own."""
