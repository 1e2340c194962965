from raybench.planning.slots import DeviceSlot, pick

SLOTS = [DeviceSlot("gpu", node, number) for node in ("a", "b") for number in (0, 1)]


def test_workers_are_packed_on_as_few_nodes_as_possible():
    free = [SLOTS[0], SLOTS[2], SLOTS[3]]
    assert {slot.node for slot in pick(free, 2)} == {"b"}
    assert pick(free, 1) == (SLOTS[0],)
    assert pick(free, 4) is None
    assert len(pick(SLOTS, 3)) == 3


def test_spread_takes_one_slot_of_each_node_in_turn():
    more = [*SLOTS, DeviceSlot("gpu", "b", 2)]
    assert [str(slot) for slot in pick(more, 2, "spread")] == ["GPU 0 of a", "GPU 0 of b"]
    assert {slot.node for slot in pick(more, 3, "spread")} == {"a", "b"}
    assert len(set(pick(more, 5, "spread"))) == 5
    assert pick(more, 6, "spread") is None
