"""`ttnn.matmul` and `ttnn.linear`: shapes, program configs, the K blocks they lead to, and the product."""
