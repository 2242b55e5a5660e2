// The eight words that stand for what somebody is about to agree to, worked out from its content.
import { sha256 } from './passkey.js'

const WORDS = `
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
`.trim().split(/\s+/)

/** Return the words of a digest (hex) of a payout, a change or a batch. */
export async function words(contentDigest) {
  const hash = await sha256(`outlay.words.v1\n${contentDigest}`)
  return hash.slice(0, 16).match(/../g).map((byte) => WORDS[parseInt(byte, 16)]).join(' ')
}
