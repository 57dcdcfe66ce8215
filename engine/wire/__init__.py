"""The wire: keys and encodings. Pure: bytes in, values out."""
