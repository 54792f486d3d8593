// Pinning a candidate of the early filter: its seed becomes the sampler's, the filter is bypassed, and the next run is
// what a plain KSampler makes of that seed. A button on the sampler lists the candidates, the opened picture's first.
import { app } from '../../scripts/app.js'
import { outputOf } from './graph.js'
import { addButton, connected, setWidgets, showMenu, tell, widgetOf } from './menu.js'

const SAMPLERS = ['EarlyFilterSampler', 'EarlyFilterSamplerAdvanced']
const BUTTON = "Pin a candidate's seed"
// Saved with the workflow: the values before pinning, and the candidates, which the next run no longer shows.
const PROPERTY = 'icedit_pinned'
const BYPASSED = { candidates: 1, keep: 1, mode: 'resume', control_after_generate: 'fixed' }

app.registerExtension({
  name: 'icedit.pinCandidate',
  nodeCreated(node) {
    if (!SAMPLERS.includes(node.comfyClass)) return
    addButton(node, BUTTON, (event) => offer(node, event))
    const onConfigure = node.onConfigure
    node.onConfigure = function (...saved) {
      onConfigure?.apply(this, saved)
      showState(node)
    }
  }
})

/** { seed, before, candidates } of a pinned node. */
function pinnedOf(node) {
  const pinned = node.properties[PROPERTY]
  return pinned?.before && Array.isArray(pinned.candidates) ? pinned : undefined
}

function offer(node, event) {
  const pinned = pinnedOf(node)
  const opened = openedOf(node)
  // A pinned node goes on offering the candidates from before, in their order.
  const candidates = pinned || !opened ? candidatesOf(node) : distinct([opened, ...candidatesOf(node)])
  const items = candidates.map(({ seed, lines }) => {
    const pick = seed === opened?.seed ? `Pin the opened picture's seed ${seed}` : `Pin seed ${seed}`
    const run = seed === pinned?.seed ? undefined : () => pin(node, seed)
    return { text: [pick, ...lines.slice(1)].join(', '), run }
  })
  if (pinned) items.unshift({ text: `Unpin: try ${pinned.before.candidates} candidates again`, run: () => unpin(node) })
  if (!items.length) items.push({ text: 'Run first: the candidates appear here' })
  showMenu(event, pinned ? `Seed ${pinned.seed} is pinned` : 'Run one seed only', items)
}

function candidatesOf(node) {
  return pinnedOf(node)?.candidates ?? distinct(outputOf(node)?.icedit_candidates ?? [])
}

/** In a batch every picture has the same seeds. */
function distinct(candidates) {
  return candidates.filter(({ seed }, index) => candidates.findIndex((other) => other.seed === seed) === index)
}

/** The candidate whose picture was opened last in the node's preview, where there are several. */
function openedOf(node) {
  const { images = [], icedit_candidates: candidates = [] } = outputOf(node) ?? {}
  // On the canvas `imgs` holds all pictures, in Nodes 2.0 the opened one alone; either may be of an earlier run.
  const picture = node.imageIndex == null ? undefined : (node.imgs?.[node.imageIndex] ?? node.imgs?.[0])
  if (!picture?.src || images.length < 2) return undefined
  const name = new URL(picture.src).searchParams.get('filename')
  return candidates[images.findIndex((shown) => shown.filename === name)]
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
