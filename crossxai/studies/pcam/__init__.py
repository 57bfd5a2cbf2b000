"""The PatchCamelyon study: reading, drawing and checking patches, and the commands for that."""
