"""What `attach` is made of: two seams to models, the call that both end in, and its books.

`transformers` is the seam to models with a registered attention, `sdpa` the one to everything that
calls torch's `F.scaled_dot_product_attention`. Both end in `call`, which `ledger` counts and
`handle` reports.
"""
