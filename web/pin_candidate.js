// Pinning a candidate of the early filter: its seed becomes the sampler's, the filter is bypassed, and the next run is
// what a plain KSampler makes of that seed. From a button on the sampler, or by a click on the contact sheet.
import { app } from '../../scripts/app.js'
import { candidateAt, sheetsOf } from './contact_sheet.js'
import { addButton, connected, setWidgets, showMenu, tell, widgetOf } from './menu.js'

const SAMPLERS = ['EarlyFilterSampler', 'EarlyFilterSamplerAdvanced']
const BUTTON = "Pin a candidate's seed"
// Saved with the workflow: the values before pinning, and the candidates, which the next run's sheet no longer shows.
const PROPERTY = 'icedit_pinned'
const BYPASSED = { candidates: 1, keep: 1, mode: 'resume', control_after_generate: 'fixed' }
const CLICK_PIXELS = 4

app.registerExtension({
  name: 'icedit.pinCandidate',
  nodeCreated(node) {
    if (!SAMPLERS.includes(node.comfyClass)) return
    addButton(node, BUTTON, (event) => offer(node, event, candidatesOf(node)))
    const onConfigure = node.onConfigure
    node.onConfigure = function (...saved) {
      onConfigure?.apply(this, saved)
      showState(node)
    }
  },
  setup() {
    let pressed = [0, 0]
    document.addEventListener('pointerdown', (event) => (pressed = [event.clientX, event.clientY]), true)
    document.addEventListener('click', (event) => {
      // The end of a drag is a click too.
      if (Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > CLICK_PIXELS) return
      const hit = candidateAt(event)
      if (hit && SAMPLERS.includes(hit.node.comfyClass)) offer(hit.node, event, [hit.candidate])
    })
  }
})

/** { seed, before, candidates } of a pinned node. */
function pinnedOf(node) {
  const pinned = node.properties[PROPERTY]
  return pinned?.before && Array.isArray(pinned.candidates) ? pinned : undefined
}

function offer(node, event, candidates) {
  const pinned = pinnedOf(node)
  const items = candidates.map(({ seed, lines }) => ({
    text: [`Pin seed ${seed}`, ...lines.slice(1)].join(', '),
    run: seed === pinned?.seed ? undefined : () => pin(node, seed)
  }))
  if (pinned) items.unshift({ text: `Unpin: try ${pinned.before.candidates} candidates again`, run: () => unpin(node) })
  if (!items.length) items.push({ text: 'Run first: the candidates of the contact sheet appear here' })
  showMenu(event, pinned ? `Seed ${pinned.seed} is pinned` : 'Run one seed only', items)
}

function candidatesOf(node) {
  const pinned = pinnedOf(node)
  if (pinned) return pinned.candidates
  const all = sheetsOf(node).flatMap((sheet) => sheet.candidates)
  // In a batch every picture has the same seeds.
  return all.filter(({ seed }, index) => all.findIndex((other) => other.seed === seed) === index)
}

function pin(node, seed) {
  const others = connected(node, ['seed', 'candidates', 'keep', 'mode'])
  if (others.length) {
    tell('warn', 'Cannot pin the seed', `Another node sets ${others.join(', ')}. Disconnect it first.`)
    return
  }
  if (!Number.isSafeInteger(Number(seed))) {
    tell('warn', 'Cannot pin the seed', `${seed} is larger than the page's numbers can be. Start from a smaller seed.`)
    return
  }
  const candidates = candidatesOf(node)
  const names = ['seed', ...Object.keys(BYPASSED)]
  const before = pinnedOf(node)?.before ?? Object.fromEntries(names.map((name) => [name, widgetOf(node, name)?.value]))
  setWidgets(node, { ...BYPASSED, seed: Number(seed) }, () => {
    node.properties[PROPERTY] = { seed, before, candidates }
    showState(node)
  })
  tell('info', `Seed ${seed} is pinned`, 'Only this seed is run now, without the filter. Unpin it on the same button.')
}

function unpin(node) {
  setWidgets(node, pinnedOf(node).before, () => {
    delete node.properties[PROPERTY]
    showState(node)
  })
}

function showState(node) {
  const pinned = pinnedOf(node)
  widgetOf(node, BUTTON).label = pinned ? `Seed ${pinned.seed} is pinned` : BUTTON
}
