"""Write files made from records: the manifest of a report, and text formats."""
