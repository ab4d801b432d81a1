"""Renderers of the loop IR: `llvm` for machines, `text` for people."""
