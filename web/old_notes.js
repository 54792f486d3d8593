// The page keeps what a node said in a run, also when its next run has nothing to say. A node that runs again loses its
// note; one whose result is still known keeps it.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'

const CATEGORY = 'ICEdit'
const NOTE = '$$node-text-preview'

app.registerExtension({
  name: 'icedit.oldNotes',
  setup() {
    api.addEventListener('executing', ({ detail }) => detail && forget(nodeOf(String(detail))))
  }
})

/** A node by its number in the run; `5:12` is node 12 in subgraph 5. */
function nodeOf(id) {
  const [first, ...inner] = id.split(':')
  const root = app.rootGraph ?? app.graph
  return inner.reduce((node, part) => node?.subgraph?.getNodeById(Number(part)), root.getNodeById(Number(first)))
}

function forget(node) {
  const own = node?.constructor.nodeData?.category?.split('/')[0] === CATEGORY
  const index = own ? (node.widgets ?? []).findIndex(({ name }) => name === NOTE) : -1
  if (index < 0) return
  node.widgets[index].onRemove?.()
  node.widgets.splice(index, 1)
  node.setDirtyCanvas?.(true, true)
}
