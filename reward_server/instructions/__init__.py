"""The 25 verifiable instructions of IFEval (Zhou et al., 2023, arXiv 2311.07911).

A file is a family and a public function in it a kind: `keywords:frequency` is `frequency` in
`keywords.py`. It takes the response and, by keyword, what the instruction says, and tells whether
the response follows it. Readings are those of the published verifier, its odd ones included
(`tests/agreement/ifeval.py` compares the two); where ours differ, the function says so.
"""
