"""Names that SkyRL's model wrapper imports."""

pad_input = unpad_input = None
