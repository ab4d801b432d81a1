"""Loop nests as data: `ir` says what one is, `symbol` makes its expressions from the texts of ops, `build` makes it from fused calls."""
