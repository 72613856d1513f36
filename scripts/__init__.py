"""Commands that measure, check and describe this project; each file here is one."""
