"""Methods SEGA is compared with, one file each."""
