"""The textual contract of SPARK (arXiv 2512.03244) between policy and verifier.

What a policy solution and a verification look like, and how each is written, checked and read. Plain
text in, plain values out: nothing here imports verl, torch or a network library.

`steps`, `gate`, `policy_format`, `signs`: the policy's side. `rendering`, `prompts`: what the verifier is shown.
`markers`, `reading`, `writing`: the verifier's reply."""
