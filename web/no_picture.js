// When Create Diptych gets its picture from another node, its own file is "None", and Nodes 2.0 would show that this file
// failed to load.
import { app } from '../../scripts/app.js'
import { widgetOf } from './menu.js'

app.registerExtension({
  name: 'icedit.noPicture',
  nodeCreated(node) {
    if (node.comfyClass !== 'DiptychCreate') return
    Object.defineProperty(node, 'hideOutputImages', { get: () => widgetOf(node, 'image')?.value === 'None' })
  }
})
