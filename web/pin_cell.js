// Pinning a cell of an edit grid: its instruction and its seed become the only ones that Edit Variations gives out. A
// button on the grid lists the cells.
import { app } from '../../scripts/app.js'
import { originOf, outputOf } from './graph.js'
import { addButton, connected, setWidgets, showMenu, tell, widgetOf } from './menu.js'

const BUTTON = 'Pin a cell'
// Saved with the workflow, on Edit Variations: the values before pinning, and the cells, which the next run no longer
// shows.
const PROPERTY = 'icedit_pinned_cell'
const WIDGETS = ['instructions', 'seed', 'seeds', 'control_after_generate']

app.registerExtension({
  name: 'icedit.pinCell',
  nodeCreated(node) {
    if (node.comfyClass === 'EditGrid') addButton(node, BUTTON, (event) => offer(node, event))
  }
})

function offer(grid, event) {
  const variations = originOf(grid, 'seed')
  if (variations?.comfyClass !== 'EditVariations' || connected(variations, WIDGETS).length) {
    tell('warn', 'Cannot pin a cell', 'Connect seed and instruction of Edit Variations, and write its values on it.')
    return
  }
  const pinned = variations.properties[PROPERTY]
  const cells = pinned?.cells ?? outputOf(grid)?.icedit_cells ?? []
  const items = cells.map((cell) => {
    const taken = pinned && cell.seed === pinned.cell.seed && cell.instruction === pinned.cell.instruction
    return { text: `“${cell.instruction}”, seed ${cell.seed}`, run: taken ? undefined : () => pin(variations, cell, cells) }
  })
  if (pinned) items.unshift({ text: 'Unpin: all cells again', run: () => unpin(variations) })
  if (!items.length) items.push({ text: 'Run first: the cells appear here' })
  showMenu(event, pinned ? `Seed ${pinned.cell.seed} is pinned` : 'Run one cell only', items)
}

function pin(variations, cell, cells) {
  const seed = Number(cell.seed)
  if (!Number.isSafeInteger(seed)) {
    tell('warn', 'Cannot pin the cell', `${cell.seed} is larger than the page's numbers can be. Take a smaller seed.`)
    return
  }
  const values = Object.fromEntries(WIDGETS.map((name) => [name, widgetOf(variations, name)?.value]))
  const before = variations.properties[PROPERTY]?.before ?? values
  const pinned = { instructions: cell.instruction, seed, seeds: 1, control_after_generate: 'fixed' }
  setWidgets(variations, pinned, () => (variations.properties[PROPERTY] = { cell, before, cells }))
  tell('info', `Seed ${seed} is pinned`, 'Only this edit is run now. Unpin it on the same button.')
}

function unpin(variations) {
  setWidgets(variations, variations.properties[PROPERTY].before, () => delete variations.properties[PROPERTY])
}
