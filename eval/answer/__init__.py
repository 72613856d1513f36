"""The answer page: which method at which cost, from the records of a store and the numbers of the papers."""
