"""LiteRT and our delegate: interpreters, nodes, the library and its C ABI."""
