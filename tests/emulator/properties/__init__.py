"""Random op calls, answered by the emulator, PyTorch and the real ttnn: where they differ, a user would find it later.

A family of ops is one module `test_<family>.py` with three things:

    calls = st.builds(Call, ...)        # a strategy of calls, from what strategies.py has
    REFERENCES = {"ttnn.neg": negated}  # by op: what PyTorch makes of the same arguments, see comparison.Reference
    FAMILY = Family("eltwise", calls, REFERENCES)

    def test_eltwise(properties: Properties) -> None:
        properties.check(FAMILY)

An op without a reference is held against the real ttnn's spec and refusals alone. Draw illegal calls too: a wrong dtype, a
dimension too many. A difference that is to stay stands in explained.py, with its reason.

    python -m tests.emulator.properties --examples 2000 --seed 1 eltwise movement

runs families long (all of them if none is named): it goes on after a difference, and prints how often each op had which
outcome, and an example of each kind of difference. Under pytest TT_PROPERTY_EXAMPLES and TT_PROPERTY_SEED say how many and which.
"""
