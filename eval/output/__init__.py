"""Files made from records: the manifest that remembers them, and text formats."""
