// What a node says to the user stays on it until it runs again. The page itself keeps such a text too long, after the
// next run that has nothing to say, or since version 1.58 too short, until the end of the run.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { widgetOf } from './menu.js'

const CATEGORY = 'ICEdit'
const PAGES_OWN = '$$node-text-preview'
const NOTE = 'icedit_note'
const ENDS = ['execution_success', 'execution_error', 'execution_interrupted']
const LINE = 17
const LETTER = 6.5

/** By node, what it said in its last run. */
const said = new Map()

app.registerExtension({
  name: 'icedit.nodeNotes',
  setup() {
    api.addEventListener('executing', ({ detail }) => detail && forget(nodeOf(String(detail))))
    api.addEventListener('progress_text', ({ detail }) => remember(nodeOf(String(detail.nodeId)), detail.text))
    // After the page has dropped its own.
    for (const end of ENDS) api.addEventListener(end, () => setTimeout(showAll, 0))
  }
})

/** A node by its number in the run; `5:12` is node 12 in subgraph 5. */
function nodeOf(id) {
  const [first, ...inner] = id.split(':')
  const root = app.rootGraph ?? app.graph
  return inner.reduce((node, part) => node?.subgraph?.getNodeById(Number(part)), root.getNodeById(Number(first)))
}

function remember(node, text) {
  if (text && node?.constructor.nodeData?.category?.split('/')[0] === CATEGORY) said.set(node, text)
}

function forget(node) {
  if (!said.delete(node)) return
  for (const name of [PAGES_OWN, NOTE]) {
    const widget = widgetOf(node, name)
    if (!widget) continue
    widget.onRemove?.()
    node.widgets.splice(node.widgets.indexOf(widget), 1)
  }
  node.setDirtyCanvas?.(true, true)
}

function showAll() {
  for (const [node, text] of said) {
    if (!node.graph) said.delete(node)
    else if (!widgetOf(node, PAGES_OWN)) show(node, text)
  }
}

function show(node, text) {
  const widget = widgetOf(node, NOTE) ?? addNote(node)
  widget.element.textContent = text
  requestAnimationFrame(() => {
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  })
}

function addNote(node) {
  const element = document.createElement('div')
  element.className = 'icedit-note'
  element.style.cssText = `font-size: 12px; line-height: ${LINE}px; padding: 4px 8px; white-space: pre-wrap; overflow: auto;`
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => heightOf(node, element) }
  const widget = node.addDOMWidget(NOTE, NOTE, element, options)
  // Not saved: workflows store widget values by position.
  widget.serialize = false
  return widget
}

function heightOf(node, element) {
  const letters = Math.max(10, (node.size[0] - 50) / LETTER)
  const lines = element.textContent.split('\n').reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0)
  return 20 + LINE * lines
}
