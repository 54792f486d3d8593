// Which candidate is at a place of the contact sheet, on the canvas and in Nodes 2.0. Where a page shows its pictures in
// another way nothing is found, and the button on the node remains.
import { app } from '../../scripts/app.js'

const PREVIEW = '$$canvas-image-preview'

/** The sheets of the node's last run: { size, cell, columns, candidates: [{ seed, lines }] }, one for each picture. */
export function sheetsOf(node) {
  return outputOf(node)?.icedit_sheets ?? []
}

/** The candidate under the pointer: { node, candidate }, or null. */
export function candidateAt(event) {
  const place = event.target === app.canvas?.canvas ? onCanvas(event) : onPage(event)
  const sheet = place && sheetsOf(place.node)[place.picture]
  if (!sheet) return null
  const [column, row] = [0, 1].map((axis) => Math.floor((place.at[axis] * sheet.size[axis]) / sheet.cell[axis]))
  const candidate = column < sheet.columns ? sheet.candidates[row * sheet.columns + column] : undefined
  return candidate ? { node: place.node, candidate } : null
}

function outputOf(node) {
  return app.nodeOutputs?.[node.graph?.isRootGraph === false ? `${node.graph.id}:${node.id}` : node.id]
}

function onCanvas(event) {
  const canvas = app.canvas
  const [x, y] = canvas.convertEventToCanvasOffset(event)
  const node = canvas.graph.getNodeOnPos(x, y)
  const preview = node?.widgets?.find((widget) => widget.name === PREVIEW)
  const picture = node?.imageIndex ?? 0
  const image = node?.imgs?.[picture]
  if (!preview || !image || (node.imgs.length > 1 && node.imageIndex == null)) return null
  const text = app.extensionManager.setting.get('Comfy.Node.AllowImageSizeDraw') ? 15 : 0
  const box = { x: 0, y: preview.y, width: node.size[0], height: preview.computedHeight - text }
  const at = within(box, image, [x - node.pos[0], y - node.pos[1]], 1)
  return at && { node, picture, at }
}

function onPage(event) {
  const element = event.target.closest?.('[data-node-id]')
  const image = !event.target.closest?.('button') && element?.querySelector('.image-preview img')
  if (!image) return null
  const node = app.canvas.graph.getNodeById(element.dataset.nodeId)
  const at = within(image.getBoundingClientRect(), image, [event.clientX, event.clientY], Infinity)
  if (!node || !at) return null
  const name = new URL(image.src).searchParams.get('filename')
  const picture = outputOf(node)?.images?.findIndex((shown) => shown.filename === name)
  return { node, picture, at }
}

/** Where a point lies in a picture that is centred in a box, as fractions of its width and height; null beside it. */
function within(box, image, point, largest) {
  const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight, largest)
  const size = [image.naturalWidth * scale, image.naturalHeight * scale]
  const corner = [box.x + (box.width - size[0]) / 2, box.y + (box.height - size[1]) / 2]
  const at = [0, 1].map((axis) => (point[axis] - corner[axis]) / size[axis])
  return at.every((fraction) => fraction >= 0 && fraction < 1) ? at : null
}
