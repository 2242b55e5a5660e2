"""The words of a second display: eight words that stand for what somebody is about to agree to.

They are shown in the message that asks for a decision, and by ``outlay approvals show``, which works them out itself
from the content. Where both show the same words, both are about the same content, to the last digit.

Eight words are 64 bits of a digest. To make up another payout with the words of one that is there takes 2**64 tries.
Whoever may choose *both* payouts, as a stolen program could, finds two that share their words in 2**32: so the words
tell two displays apart, and never take the place of reading recipient and amount.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from outlay.core.intent import Intent
from outlay.evidence.canonical import digest

COUNT = 8
_DOMAIN = b"outlay.words.v1\n"

_TEXT = """\
acorn almond anchor anvil apple apricot autumn badger bamboo banana barley barrel basil basket beacon beaver
birch bison blanket bottle breeze bridge broom bucket button cactus camel candle canoe canyon carpet castle
cavern cedar celery chalk cherry chimney chisel clock cloud clover cobra coconut comet compass copper coral
cotton coyote cradle crater crimson curtain cypress daisy dancer desert diary doctor dolphin donkey dune eagle
eclipse ember engine falcon farmer faucet feather fern ferret fiddle fjord flute forest fossil funnel galaxy
gallery garlic gazelle gecko geyser ginger giraffe glacier goblet granite gravel guitar hammer hamster harbor
harvest hazel helmet heron hinge holly hyena igloo iguana indigo inkwell island ivory jackal jaguar jasmine
jigsaw jungle juniper kayak kettle kitten koala ladder lagoon lantern lava lemon lemur lentil leopard lettuce
lilac lobster locket lotus magnet magpie mailbox mammoth mango maple marble marmot meadow melon meteor mirror
monsoon moon moose mosaic napkin nebula needle nutmeg oasis oboe ocean ocelot octopus olive onion opera orange
orbit orchid osprey ostrich otter oven paddle painter palace panther papaya parrot parsley peanut pebble pelican
pencil penguin pepper piano pigeon pilot pirate planet poppy potato prairie puffin pumpkin purple puzzle quartz
quilt quince rabbit radish rainbow raisin raven rhubarb ribbon river rooster saffron sailor salmon sandal scarf
sesame shadow shovel shrimp silver snow sofa sparrow spider spinach spoon spring squid stapler statue stork
summit sundial sunset table teapot temple thimble thistle thunder tiger tomato tower tulip turnip turtle valley
velvet violin wagon walnut walrus weasel willow window winter wolf wombat wrench yacht yellow zebra zipper
"""

WORDS = tuple(_TEXT.split())
"""One for each value of a byte. Any two differ in two letters or more, and in their first four."""


def words(content_digest: str) -> str:
    """Return the eight words, with spaces between them, of the digest (hex) of an intent, a change or a batch."""
    chosen = hashlib.sha256(_DOMAIN + content_digest.encode("ascii")).digest()[:COUNT]
    return " ".join(WORDS[each] for each in chosen)


def words_of_payout(intent: Intent) -> str:
    """Return the words of a payout, as a decision about it signs it."""
    return words(digest(intent.document()))


def words_of_change(content: Mapping[str, Any]) -> str:
    """Return the words of a change, as ``evidence.governance.content`` states it."""
    return words(digest(dict(content)))
