import { runNode } from '../core/runtime/process.ts';
import { startCrlNode } from './node/service.ts';

await runNode('warifu-crl', 'a CRL publisher that follows a CA elsewhere', startCrlNode);
