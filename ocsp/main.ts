import { runNode } from '../core/runtime/process.ts';
import { startOcspNode } from './node/service.ts';

await runNode('warifu-ocsp', 'an OCSP responder that follows a CA elsewhere', startOcspNode);
