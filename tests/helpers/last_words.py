"""Words of a command line of which a later one replaces an earlier one, as a real command refuses."""


def last_of(words):
    """The last word of each key, in the order of the first."""
    keys = {}
    for word in words:
        keys[word.partition("=")[0].removeprefix("grid.")] = word
    return list(keys.values())
