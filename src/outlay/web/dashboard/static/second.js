// The second display: the words of what is shown, worked out here, by nothing but what is shown.
import { digest } from './canonical.js'
import { contentOf } from './shown.js'
import { words } from './words.js'

const place = document.querySelector('#words')
try {
  place.textContent = await words(await digest(contentOf(document)))
} catch (error) {
  place.textContent = `There are no words: ${error.message}`
}
