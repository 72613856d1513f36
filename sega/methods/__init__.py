"""What a method is: its interface, its types, its registry, and what staged methods share."""
