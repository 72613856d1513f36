"""From a command line to finished cells."""
