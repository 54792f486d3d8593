// Choosing a candidate of the early filter oneself: with choose at "me" the samplers show their candidates as buttons for
// mouse and keys, and a press writes the seed into the widget picked. The next run finishes that one.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { outputOf } from './graph.js'
import { connected, setWidgets, tell, widgetOf } from './menu.js'

const SAMPLERS = ['EarlyFilterSampler', 'EarlyFilterSamplerAdvanced']
const WIDGET = 'icedit_pick'
const NONE_YET = '?'
const WIDTH = 104
const STYLE = `
.icedit-pick { display: flex; flex-direction: column; gap: 6px; padding: 4px; box-sizing: border-box; overflow-y: auto;
  font: 12px/1.35 sans-serif; color: var(--input-text, #ddd); }
.icedit-pick p { margin: 0; }
.icedit-pick [role="radiogroup"] { display: grid; gap: 6px;
  grid-template-columns: repeat(auto-fill, minmax(${WIDTH}px, 1fr)); }
.icedit-pick button { font: inherit; color: inherit; cursor: pointer; border: 2px solid var(--border-color, #4e4e4e);
  border-radius: 6px; background: var(--comfy-input-bg, #222); padding: 3px; }
.icedit-pick [role="radio"] { display: flex; flex-direction: column; text-align: left; }
.icedit-pick [role="radio"] img { width: 100%; border-radius: 3px; }
.icedit-pick [data-finished="true"] { border-color: #50c878; }
.icedit-pick [aria-checked="true"] { border-color: #4aa3ff; background: #1d4e89; color: #fff; }
.icedit-pick button:focus-visible { outline: 2px solid #fff; outline-offset: 1px; }`

app.registerExtension({
  name: 'icedit.pickCandidate',
  setup() {
    const style = document.createElement('style')
    style.textContent = STYLE
    document.head.append(style)
  },
  nodeCreated(node) {
    if (!SAMPLERS.includes(node.comfyClass)) return
    const onExecuted = node.onExecuted
    node.onExecuted = function (output, ...more) {
      onExecuted?.call(this, output, ...more)
      show(this, output)
    }
    const picked = widgetOf(node, 'picked')
    const callback = picked?.callback
    if (picked)
      picked.callback = function (...call) {
        callback?.apply(this, call)
        mark(node)
      }
  },
  // After a reload or a change of tabs the page has the outputs again, but calls no node.
  afterConfigureGraph() {
    for (const node of allNodes(app.graph)) if (SAMPLERS.includes(node.comfyClass)) show(node, outputOf(node))
  }
})

function allNodes(graph) {
  return (graph?._nodes ?? []).flatMap((node) => [node, ...(node.subgraph ? allNodes(node.subgraph) : [])])
}

/** Show what a run of the node has told: its candidates, or nothing where the judge chose. */
function show(node, output) {
  const [pick] = output?.icedit_pick ?? []
  if (!pick) {
    removeWidget(node)
    return
  }
  const picked = widgetOf(node, 'picked')
  // A pick among candidates that the node has no longer.
  if (pick.asked && !pick.picks.some(Boolean) && picked?.value === pick.asked) setWidgets(node, { picked: '' })
  const element = (widgetOf(node, WIDGET) ?? addWidget(node)).element
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.seed : undefined
  element.pick = pick
  element.replaceChildren(...parts(node, pick, output.icedit_candidates))
  mark(node)
  if (focused) element.querySelector(`[data-seed="${CSS.escape(focused)}"]`)?.focus()
  node.setDirtyCanvas(true, true)
}

function addWidget(node) {
  const element = document.createElement('div')
  element.className = 'icedit-pick'
  // What is meant for the candidates is not for the page: Delete would remove the node.
  element.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    event.stopPropagation()
    if (move(node, element, event)) event.preventDefault()
  })
  element.addEventListener('pointerdown', (event) => event.stopPropagation())
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => heightOf(node, element) }
  const widget = node.addDOMWidget(WIDGET, WIDGET, element, options)
  // Not saved: workflows store widget values by position.
  widget.serialize = false
  requestAnimationFrame(() => {
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  })
  return widget
}

function removeWidget(node) {
  const widget = widgetOf(node, WIDGET)
  if (!widget) return
  widget.onRemove?.()
  node.widgets.splice(node.widgets.indexOf(widget), 1)
  node.setDirtyCanvas(true, true)
}

/** The rows of pictures as wide as the node is, with their text, and the lines around them. */
function heightOf(node, element) {
  const columns = Math.max(1, Math.floor((node.size[0] - 40) / (WIDTH + 6)))
  const groups = [...element.querySelectorAll('[role="radiogroup"]')]
  const wide = (node.size[0] - 40) / columns
  const rows = groups.map((group) => Math.ceil(group.children.length / columns) * (wide * ratioOf(group) + 50))
  return 70 + rows.reduce((sum, height) => sum + height + 20, 0)
}

function ratioOf(group) {
  const picture = group.querySelector('img')
  return picture?.naturalWidth ? picture.naturalHeight / picture.naturalWidth : 1
}

function parts(node, pick, candidates) {
  const hint = document.createElement('p')
  hint.className = 'icedit-pick-hint'
  const groups = pick.picks.map((_, number) => {
    const own = candidates.filter(({ picture }) => picture === number)
    const group = document.createElement('div')
    group.setAttribute('role', 'radiogroup')
    group.setAttribute('aria-label', pick.picks.length > 1 ? `Candidates of picture ${number + 1}` : 'Candidates')
    group.append(...own.map((candidate) => button(node, candidate)))
    return group
  })
  const none = document.createElement('button')
  none.type = 'button'
  none.textContent = 'Pick none: the next run shows candidates'
  none.addEventListener('click', () => write(node, pick.picks.map(() => undefined)))
  return [hint, ...groups, none]
}

function button(node, { seed, lines, picked, picture, image }) {
  const made = document.createElement('button')
  made.type = 'button'
  made.setAttribute('role', 'radio')
  Object.assign(made.dataset, { seed, picture, finished: picked })
  const shown = document.createElement('img')
  shown.alt = ''
  shown.draggable = false
  shown.addEventListener('load', () => node.setDirtyCanvas(true, true))
  shown.src = api.apiURL(`/view?${new URLSearchParams(image)}`)
  // As text: a workflow file may hold anything.
  const texts = lines.map((line) => Object.assign(document.createElement('span'), { textContent: line }))
  made.append(shown, ...texts)
  made.addEventListener('click', () => choose(node, made))
  return made
}

function choose(node, made) {
  const picks = picksOf(node)
  picks[Number(made.dataset.picture)] = made.dataset.seed
  write(node, picks)
}

/** The picked seeds by the widget, undefined for pictures without one. */
function picksOf(node) {
  const { pick } = widgetOf(node, WIDGET).element
  const written = String(widgetOf(node, 'picked')?.value ?? '').split(' of ')[0]
  const seeds = written.split(',').map((seed) => (/^\d+$/.test(seed.trim()) ? seed.trim() : undefined))
  return pick.picks.map((_, number) => (seeds.length === 1 ? seeds[0] : seeds[number]))
}

function write(node, picks) {
  if (connected(node, ['picked']).length) {
    tell('warn', 'Cannot pick a candidate', 'Another node sets picked. Disconnect it first.')
    return
  }
  const { pick } = widgetOf(node, WIDGET).element
  const seeds = picks.map((seed) => seed ?? NONE_YET).join(', ')
  const from = pick.inputs ? ` of ${pick.inputs}` : ''
  setWidgets(node, { picked: picks.some(Boolean) ? seeds + from : '' })
  mark(node)
}

/** Show which candidates are picked, and what to do next. */
function mark(node) {
  const element = widgetOf(node, WIDGET)?.element
  if (!element?.pick) return
  const picks = picksOf(node)
  for (const group of element.querySelectorAll('[role="radiogroup"]')) {
    const buttons = [...group.children]
    for (const made of buttons) {
      const checked = picks[Number(made.dataset.picture)] === made.dataset.seed
      made.setAttribute('aria-checked', String(checked))
      made.tabIndex = checked ? 0 : -1
    }
    if (buttons.length && !buttons.some((made) => made.tabIndex === 0)) buttons[0].tabIndex = 0
  }
  element.querySelector('.icedit-pick-hint').textContent = hintOf(picks, element)
}

function hintOf(picks, element) {
  if (!picks.some(Boolean)) return 'Click one, or go to it with Tab and the arrow keys. Then press Run.'
  if (!picks.every(Boolean)) return 'Click one of each picture. Then press Run.'
  const finished = [...element.querySelectorAll('[aria-checked="true"]')].every((made) => made.dataset.finished === 'true')
  return finished ? 'Finished. Click another one and press Run to finish it too.' : 'Press Run to finish the picked one.'
}

/** Arrows, Home and End go to another candidate and pick it, a digit picks the one of that number, Delete none. */
function move(node, element, event) {
  const group = document.activeElement?.closest('.icedit-pick [role="radiogroup"]')
  if (!group) return false
  const buttons = [...group.children]
  const at = buttons.indexOf(document.activeElement)
  const count = buttons.length
  const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: count - 1 }
  if (event.key === 'Delete' || event.key === 'Backspace') {
    const picks = picksOf(node)
    picks[Number(buttons[at]?.dataset.picture ?? 0)] = undefined
    write(node, picks)
    return true
  }
  const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : undefined
  const place = digit ?? (event.key in steps ? (steps[event.key] + count) % count : undefined)
  if (place === undefined || !buttons[place]) return false
  buttons[place].focus()
  choose(node, buttons[place])
  return true
}
