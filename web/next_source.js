// Editing a result further: a button on the nodes that make it sets it as the picture to edit. The pictures and words
// before it are kept with the workflow, and the same button leads back to them.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { originOf, outputOf, targetsOf } from './graph.js'
import { addButton, setWidgets, showMenu, tell, widgetOf } from './menu.js'

const RESULTS = ['DecodeRightHalf', 'CropRightHalf', 'EditRestore']
const BUTTON = 'Next source'
// Saved with the workflow, on the node that loads the picture: [{ image, words }], the first picture first.
const PROPERTY = 'icedit_turns'
const WORDS = { InContextEditInstruction: 'editText', EditVariations: 'instructions' }

app.registerExtension({
  name: 'icedit.nextSource',
  nodeCreated(node) {
    if (RESULTS.includes(node.comfyClass)) addButton(node, BUTTON, (event) => offer(node, event))
  }
})

function offer(node, event) {
  const loader = loaderOf(node)
  if (!loader) {
    tell('warn', 'No picture to replace', 'Connect original to Create Diptych or to Load Image, where the picture is.')
    return
  }
  const results = resultsOf(node)
  const items = results.map((result) => ({ text: result.text, run: () => use(loader, result) }))
  if (!items.length) items.push({ text: 'Run first, with Save Image or Preview Image connected' })
  const turns = turnsOf(loader)
  turns.forEach(({ image, words }, index) => {
    items.push({ text: `Back to turn ${index + 1}: ${image}, “${words}”`, run: () => goBack(loader, index) })
  })
  showMenu(event, 'Edit the result further', items)
}

/** The node whose `image` is the picture that was edited. */
function loaderOf(node) {
  let loader = originOf(node, 'original') ?? originOf(node, 'layout')
  while (loader?.comfyClass === 'DiptychCreate' && originOf(loader, 'image_input')) loader = originOf(loader, 'image_input')
  return ['DiptychCreate', 'LoadImage'].includes(loader?.comfyClass) ? loader : undefined
}

/** The pictures that a node connected to the result shows: [{ text, file }]. */
function resultsOf(node) {
  const targets = targetsOf(node, 0)
  const shown = targets.filter((target) => target.comfyClass !== 'EditGrid').map((target) => outputOf(target)?.images ?? [])
  const files = shown.find((images) => images.length) ?? []
  const cells = targets.map((target) => outputOf(target)?.icedit_cells ?? []).find(({ length }) => length === files.length)
  return files.map((file, index) => {
    const name = cells?.length ? `“${cells[index].instruction}”, seed ${cells[index].seed}` : `picture ${index + 1}`
    return { text: files.length > 1 ? `Edit ${name} further` : 'Edit this result further', file }
  })
}

function turnsOf(loader) {
  return Array.isArray(loader.properties[PROPERTY]) ? loader.properties[PROPERTY] : []
}

/** The node with the words of the edit and its widget, where there is one such node. */
function wordsOf(loader) {
  const found = loader.graph._nodes.flatMap((node) => {
    const widget = widgetOf(node, WORDS[node.comfyClass])
    return widget && !node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null)
      ? [{ node, widget }]
      : []
  })
  return found.length === 1 ? found[0] : undefined
}

async function use(loader, { file }) {
  let name
  try {
    name = await copied(file)
  } catch (error) {
    tell('error', 'The result could not be taken', String(error.message ?? error))
    return
  }
  const turn = { image: widgetOf(loader, 'image').value, words: wordsOf(loader)?.widget.value ?? '' }
  setPicture(loader, name, [...turnsOf(loader), turn])
  tell('info', `Turn ${turnsOf(loader).length + 1}`, 'The result is the picture now. Write what to change next, and run.')
}

function goBack(loader, index) {
  const turns = turnsOf(loader)
  const { image, words } = turns[index]
  setPicture(loader, image, turns.slice(0, index))
  const written = wordsOf(loader)
  if (written && words) setWidgets(written.node, { [written.widget.name]: words })
}

function setPicture(loader, name, turns) {
  const values = widgetOf(loader, 'image').options?.values
  if (Array.isArray(values) && !values.includes(name)) values.push(name)
  setWidgets(loader, { image: name }, () => (loader.properties[PROPERTY] = turns))
}

/** Copy a result among the pictures to load, from where ComfyUI may remove it; its name there. */
async function copied({ filename, subfolder = '', type = 'output' }) {
  const shown = await api.fetchApi(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
  if (!shown.ok) throw new Error(`${filename} is no longer there. Run again.`)
  const form = new FormData()
  form.append('image', new File([await shown.blob()], filename, { type: 'image/png' }))
  const answer = await api.fetchApi('/upload/image', { method: 'POST', body: form })
  if (!answer.ok) throw new Error(`ComfyUI did not take the copy: ${answer.status} ${answer.statusText}.`)
  const { name, subfolder: folder } = await answer.json()
  return folder ? `${folder}/${name}` : name
}
