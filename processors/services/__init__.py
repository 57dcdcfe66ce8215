"""What a chat product does, one service per file; dependencies come through the constructor."""
