// Create Diptych that gets its picture from another node: its own is "None", of which Nodes 2.0 would say that the file
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
